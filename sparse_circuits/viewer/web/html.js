// The one door to the vendored library (Preact with hooks, and htm): every other file imports from here.
export { html, render, Component, useState, useEffect, useLayoutEffect, useMemo, useRef, useCallback } from "./vendor/htm-preact.js";
