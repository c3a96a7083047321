"""The look that our pages share: colours in light and dark, type, cards, tables, clips."""

LIGHT = """--page:#f7f7f4; --card:#ffffff; --ink:#1d1f23; --soft:#5d636d; --line:#dcdcd6; --good:#17743b; --bad:#b3261e;
  --c0:#6b7280; --c1:#b45309; --c2:#1d5fd1; --c3:#0e8a7d; --c4:#a21caf;"""

DARK = """--page:#14161a; --card:#1d2025; --ink:#e8e8e4; --soft:#a4abb6; --line:#363b43; --good:#6fd08c; --bad:#ff8a80;
    --c0:#a3aab5; --c1:#f0a04b; --c2:#7fb0ff; --c3:#4fd1c1; --c4:#e58cf0;"""

BASE = """\
* { box-sizing: border-box; }
html { color-scheme: light dark; }
body { margin:0; background:var(--page); color:var(--ink);
  font:16px/1.5 system-ui, -apple-system, "Segoe UI", sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 24px 16px 48px; }
h1 { font-size: 1.6rem; line-height:1.25; margin: 0 0 4px; }
h2 { font-size: 1.15rem; margin: 36px 0 10px; }
p, li { max-width: 72ch; }
p.lead, .note, figcaption { color: var(--soft); }
.note, figcaption { font-size: .88rem; }
.tiles { display:grid; grid-template-columns: repeat(auto-fit, minmax(200px, 1fr)); gap:12px; margin: 20px 0 0; }
.tile, .card { background:var(--card); border:1px solid var(--line); border-radius:10px; padding:12px 14px; }
.tile b { display:block; font-size:1.5rem; line-height:1.3; font-variant-numeric: tabular-nums; }
.tile span { color:var(--soft); font-size:.88rem; }
.split { display:grid; grid-template-columns: minmax(0, 7fr) minmax(0, 6fr); gap:16px; align-items:start; }
table { border-collapse: collapse; width:100%; font-size:.92rem; font-variant-numeric: tabular-nums; }
th, td { text-align:right; padding:5px 6px; border-bottom:1px solid var(--line); white-space:nowrap; }
th:first-child, td:first-child { text-align:left; }
thead th { color:var(--soft); font-weight:600; }
tbody th[colspan] { text-align:left; padding-top:14px; font-weight:600; }
td small { color:var(--soft); }
td .mark { vertical-align:-2px; margin-right:6px; }
.clips { display:grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 310px), 1fr)); gap:14px; }
figure { margin:0; }
video { width:100%; display:block; border-radius:6px; background:#808080; image-rendering: pixelated; }
figcaption { margin-top:8px; }
figcaption b { color:var(--ink); display:block; font-weight:600; }
.sides { display:flex; justify-content:space-between; font-size:.8rem; color:var(--soft); margin-bottom:4px; }
.yes { color:var(--good); } .no { color:var(--bad); }
pre { background:var(--card); border:1px solid var(--line); border-radius:10px; padding:12px 14px; overflow-x:auto;
  font-size:.85rem; line-height:1.45; }
svg text { fill: currentColor; }
dl { display:grid; grid-template-columns:max-content 1fr; gap:2px 14px; font-size:.9rem; }
dt { color:var(--soft); } dd { margin:0; overflow-wrap:anywhere; }
@media (max-width: 760px) { .split { grid-template-columns: minmax(0, 1fr); } body { font-size:15px; }
  th, td { padding:5px 3px; } table { font-size:.84rem; } }
@media (max-width: 430px) { td small { display:block; line-height:1.1; } td:first-child { white-space:normal; }
  .tiles { grid-template-columns: 1fr 1fr; gap:8px; } .tile b { font-size:1.2rem; } .tile b span { display:block; } }
"""

# Follows the reader's system.
STYLE = f"""
:root {{ {LIGHT} }}
@media (prefers-color-scheme: dark) {{ :root {{ {DARK} }} }}
{BASE}"""

# The same with a switch: <html data-theme="light"> or "dark" overrules the system.
SWITCHED_STYLE = f"""
:root {{ {LIGHT} }}
:root[data-theme="dark"] {{ {DARK} }}
@media (prefers-color-scheme: dark) {{ :root:not([data-theme="light"]) {{ {DARK} }} }}
{BASE}
html[data-theme="dark"] {{ color-scheme: dark; }}
html[data-theme="light"] {{ color-scheme: light; }}
"""
