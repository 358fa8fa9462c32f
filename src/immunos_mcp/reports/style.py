"""The style sheet of a report's page: light and dark, from a phone's width on."""

STYLE = """
:root {
  --ground: #f6f6f3; --card: #ffffff; --ink: #1b1e23; --muted: #565c66; --edge: #dedfda;
  --claude: #b9501a; --local: #0f766e; --warning: #8a5a00; --critical: #b3261e; --limit: #4d5562;
  --focus: #1a56c4;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ground: #121418; --card: #1b1e24; --ink: #eceef2; --muted: #a9b0bb; --edge: #343943;
    --claude: #f2995c; --local: #46c2b3; --warning: #e6b450; --critical: #ff8a80; --limit: #b4bcc8;
    --focus: #8ab4ff;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; text-size-adjust: 100%; scroll-behavior: smooth; }
body {
  margin: 0 auto; padding: 1.5rem 1rem 2.5rem; max-width: 66rem; background: var(--ground);
  color: var(--ink); font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans",
  "Liberation Sans", sans-serif;
}
h1 { font-size: 1.75rem; line-height: 1.2; margin: 0; letter-spacing: -.01em; }
h2 { font-size: 1.2rem; line-height: 1.3; margin: 0 0 .75rem; }
p { margin: 0 0 .75rem; max-width: 46rem; overflow-wrap: anywhere; }
a { color: var(--focus); }
code { font-family: ui-monospace, "Cascadia Mono", Menlo, "Liberation Mono", monospace; font-size: .9em; }
.muted, footer { color: var(--muted); }
:focus-visible { outline: 3px solid var(--focus); outline-offset: 2px; border-radius: .25rem; }
main:focus { outline: none; }
.skip { position: absolute; left: -100vw; top: .5rem; padding: .5rem 1rem; background: var(--card); }
.skip:focus { left: 1rem; z-index: 1; }
header p { margin: .25rem 0 .75rem; }
nav ul { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; list-style: none; margin: 0; padding: 0; }
nav a { display: inline-block; padding: .25rem 0; }
footer { margin-top: 1.5rem; font-size: .875rem; }
.card {
  background: var(--card); border: 1px solid var(--edge); border-radius: .75rem;
  padding: 1.25rem; margin: 1rem 0 0; scroll-margin-top: 1rem;
}
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(11rem, 1fr)); gap: .75rem; margin: 1rem 0 0; }
.tile {
  background: var(--card); border: 1px solid var(--edge); border-top: .25rem solid var(--limit);
  border-radius: .75rem; padding: .75rem 1rem;
}
.tile.claude { border-top-color: var(--claude); }
.tile.local { border-top-color: var(--local); }
.tile dt { font-size: .875rem; font-weight: 600; }
.tile dd { margin: 0; font-size: .8125rem; overflow-wrap: anywhere; }
.tile .figure { font-size: 1.5rem; line-height: 1.3; font-weight: 650; font-variant-numeric: tabular-nums; }
figure { margin: 0 0 1rem; }
.legend { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; list-style: none; margin: 0 0 .5rem; padding: 0; font-size: .875rem; }
.swatch { display: inline-block; width: .9rem; height: .9rem; margin-right: .4rem; border-radius: .15rem; vertical-align: -.1rem; }
.swatch.bar-0 { background: var(--claude); }
.swatch.bar-1 { background: var(--local); }
.swatch.line-0, .swatch.line-1, .swatch.line-2 { height: 0; width: 1.4rem; border-radius: 0; vertical-align: .25rem; }
.swatch.line-0 { border-top: 2px dashed var(--warning); }
.swatch.line-1 { border-top: 2px solid var(--critical); }
.swatch.line-2 { border-top: 2px dotted var(--limit); }
.chart svg { display: block; width: 100%; height: auto; font-size: 12px; }
.chart text { fill: var(--muted); stroke: none; font-size: 12px; }
.chart .background { fill: none; }
.chart .axis.x text { text-anchor: middle; }
.chart .axis.y text { text-anchor: end; }
.chart .axis path { stroke: var(--edge); fill: none; }
.chart .axis.x path { stroke: none; }
.chart .bar rect { rx: 2px; }
.chart .color-0 rect { fill: var(--claude); }
.chart .color-1 rect { fill: var(--local); }
.threshold { fill: none; stroke-width: 2; filter: drop-shadow(0 0 1px var(--card)) drop-shadow(0 0 1px var(--card)); }
.bars-1 .color-1 .threshold, .bars-2 .color-2 .threshold { stroke: var(--warning); stroke-dasharray: 7 4; }
.bars-1 .color-2 .threshold, .bars-2 .color-3 .threshold { stroke: var(--critical); }
.bars-1 .color-3 .threshold { stroke: var(--limit); stroke-dasharray: 2 4; }
.narrow, .narrow-words { display: none; }
details { margin: 0 0 1rem; }
summary { cursor: pointer; padding: .25rem 0; font-weight: 600; }
.scroll { overflow-x: auto; margin: .75rem 0 0; }
table { border-collapse: collapse; width: 100%; font-size: .875rem; }
caption { text-align: left; font-weight: 600; padding: 0 0 .5rem; }
th, td { padding: .4rem .75rem .4rem 0; text-align: left; vertical-align: baseline; white-space: nowrap; border-bottom: 1px solid var(--edge); }
th:last-child, td:last-child { padding-right: 0; }
thead th { color: var(--muted); font-weight: 600; vertical-align: bottom; }
tbody th { font-weight: 600; max-width: 20rem; white-space: normal; overflow-wrap: anywhere; min-width: 9rem; }
td:has(bdi) { white-space: normal; min-width: 8rem; max-width: 20rem; overflow-wrap: anywhere; }
td:has(.drawing) { vertical-align: middle; }
.number { text-align: right; font-variant-numeric: tabular-nums; }
.level.warning { color: var(--warning); font-weight: 600; }
.level.critical { color: var(--critical); font-weight: 600; }
.drawing { display: block; width: 8rem; height: .85rem; }
.drawing .scale { fill: var(--edge); stroke: var(--edge); }
.drawing .bar-0 { fill: var(--claude); }
.drawing .bar-1 { fill: var(--local); }
.drawing .interval { stroke: var(--local); stroke-width: 4; stroke-linecap: round; }
.drawing .rate { fill: var(--ink); }
@media (max-width: 40rem) {
  body { padding: 1rem .75rem 2rem; }
  .card { padding: 1rem; }
  .tiles { grid-template-columns: repeat(2, minmax(0, 1fr)); gap: .5rem; }
  .scroll {
    background:
      linear-gradient(to right, var(--card) 40%, transparent) 0 0 / 2rem 100% no-repeat local,
      linear-gradient(to left, var(--card) 40%, transparent) 100% 0 / 2rem 100% no-repeat local,
      linear-gradient(to right, var(--edge), transparent) 0 0 / .75rem 100% no-repeat scroll,
      linear-gradient(to left, var(--edge), transparent) 100% 0 / .75rem 100% no-repeat scroll;
  }
  .tile { padding: .6rem .75rem; }
  .tile:last-child:nth-child(odd) { grid-column: 1 / -1; }
  .tile .figure { font-size: 1.2rem; }
  .wide, .wide-words { display: none; }
  .narrow, .narrow-words { display: block; }
}
@media (prefers-reduced-motion: reduce) { html { scroll-behavior: auto; } }
@media print { body { max-width: none; padding: 0; } nav, .skip { display: none; } .card { break-inside: avoid; } }
"""
