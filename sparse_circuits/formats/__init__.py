"""What other programs read and write: OpenAI's released artifacts, the Hugging Face Hub's folders, graphs and tables.

`registry` lists the formats; `checkpoint.load` reads any model among them, and the commands `import`, `export` and
`convert` go between all of them.
"""
