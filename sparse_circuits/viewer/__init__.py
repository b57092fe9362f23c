"""Circuits as something to look at: a versioned JSON bundle, a page that needs nothing else, a server that answers."""

from sparse_circuits.viewer.bundle import bundle as bundle
from sparse_circuits.viewer.onefile import export_html as export_html
from sparse_circuits.viewer.schema import VERSION as VERSION
from sparse_circuits.viewer.schema import check as check
