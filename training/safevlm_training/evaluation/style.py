"""The style sheet of the page, light and dark."""

STYLE = """
:root { color-scheme: light dark; --ground: #f7f7f5; --card: #fff; --ink: #1c1c1a; --quiet: #5d5d58; --rule: #e2e2dd;
  --gate: #0b5cad; --probe: #b3541e; --third: #2a7a4f; --bad: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --ground: #161615; --card: #222220; --ink: #ecece8; --quiet: #a5a59e;
  --rule: #3a3a36; --gate: #7db7f2; --probe: #eaa06f; --third: #74c79a; --bad: #ff8a80; } }
body { margin: 0 auto; max-width: 76rem; padding: 1.5rem; background: var(--ground); color: var(--ink);
  font: 16px/1.45 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin: 0 0 .5rem; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 0 0 .5rem; }
h3 { font-size: 1rem; margin: 1rem 0 .25rem; }
p { margin: .35rem 0; max-width: 60rem; }
section { background: var(--card); border-radius: .6rem; padding: 1rem 1.25rem; margin: 1rem 0; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; margin: .5rem 0; font-variant-numeric: tabular-nums; }
th, td { text-align: left; vertical-align: top; padding: .35rem 1rem .35rem 0; border-bottom: 1px solid var(--rule); }
th { font-weight: 500; overflow-wrap: anywhere; max-width: 26rem; }
tbody th { min-width: 5rem; }
thead th { color: var(--quiet); font-size: .85rem; }
.small, .range, .none { color: var(--quiet); font-size: .8rem; overflow-wrap: anywhere; }
.range { white-space: nowrap; }
sup { color: var(--probe); cursor: help; }
.bad { color: var(--bad); }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(20rem, 1fr)); gap: 1rem; }
figure { margin: 0; }
figcaption { font-size: .85rem; }
svg { display: block; width: 100%; max-width: 30rem; height: auto; }
svg text { fill: var(--quiet); font: 11px system-ui, sans-serif; }
svg .grid { stroke: var(--rule); stroke-width: 1; }
svg .line { fill: none; stroke-width: 2; stroke-linejoin: round; }
svg .bar { stroke-width: 2; }
svg .gate { stroke: var(--gate); }
svg .probe { stroke: var(--probe); stroke-dasharray: 6 3; }
svg .third { stroke: var(--third); }
svg .chance { stroke: var(--quiet); stroke-dasharray: 2 3; stroke-width: 1; }
svg .dot.gate { fill: var(--gate); }
svg .dot.shipped { fill: var(--card); stroke: var(--gate); stroke-width: 2; }
svg .bar.shipped { stroke: var(--gate); opacity: .5; }
.key { margin-left: .75rem; white-space: nowrap; color: var(--quiet); }
.key::before { content: ""; display: inline-block; width: 1.2rem; border-top: 2px solid currentColor;
  vertical-align: middle; margin-right: .35rem; }
.key.gate::before { color: var(--gate); }
.key.probe::before { color: var(--probe); border-top-style: dashed; }
.key.third::before { color: var(--third); }
.key.chance::before { border-top: 1px dotted; }
td img { display: block; max-width: 8rem; max-height: 8rem; border-radius: .3rem; }
"""
