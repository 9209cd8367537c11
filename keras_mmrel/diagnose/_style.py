"""The look of the page: light and dark, from a phone to a wide screen."""

STYLE = """
:root { color-scheme: light dark; --back: #fff; --card: #f6f7f9;
  --text: #1c1e21; --faint: #5c636d; --line: #d9dde3; --bar: #3b6fb6;
  --other: #c2681f; --good: #2c7a4b; --heat: 200 70 40; --error: #b3261e;
  --warning: #8a5a00; --note: #3b6fb6; }
@media (prefers-color-scheme: dark) { :root { --back: #15171b;
  --card: #1e2127; --text: #e4e6ea; --faint: #9aa3af; --line: #353b45;
  --bar: #7aa7e8; --other: #e8a05c; --good: #6cc492; --heat: 235 110 75;
  --error: #f2857d; --warning: #e2b45a; --note: #8db6f0; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem 1rem 4rem; max-width: 62rem;
  font: 16px/1.55 system-ui, sans-serif; background: var(--back);
  color: var(--text); overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; line-height: 1.2; margin: .8rem 0 .3rem; }
h2 { font-size: 1.25rem; margin: 2.4rem 0 .6rem; padding-bottom: .25rem;
  border-bottom: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.4rem 0 .3rem; }
p { margin: .5rem 0; } .faint, figcaption { color: var(--faint);
  font-size: .88rem; }
ul { padding-left: 1.2rem; margin: .5rem 0; } li { margin: .25rem 0; }
.answer { background: var(--card); border-left: 4px solid var(--good);
  padding: .7rem 1rem; border-radius: 4px; margin: 1rem 0; }
.answer b { color: var(--good); }
.finding { background: var(--card); border-left: 4px solid var(--note);
  padding: .5rem .9rem; border-radius: 4px; margin: .6rem 0; }
.finding.error { border-color: var(--error); }
.finding.warning { border-color: var(--warning); }
.tag { font-size: .75rem; font-weight: 700; text-transform: uppercase;
  letter-spacing: .04em; color: var(--note); margin-right: .5rem; }
.error .tag { color: var(--error); } .warning .tag { color: var(--warning); }
.bars { margin: .8rem 0; }
.bar { display: grid; grid-template-columns: 13rem 1fr 7.5rem;
  gap: .2rem .8rem; align-items: center; margin: .35rem 0; }
.bar .value { font-variant-numeric: tabular-nums; white-space: nowrap;
  font-size: .9rem; }
.track { position: relative; height: .9rem; background: var(--card);
  border-radius: 2px; }
.track i { position: absolute; top: 0; bottom: 0; display: block; }
.fill { background: var(--bar); border-radius: 2px; }
.fill.other { background: var(--other); }
.whisker { border: solid var(--text); border-width: 0 1px; opacity: .75; }
.whisker::before { content: ""; position: absolute; left: 0; right: 0;
  top: 50%; border-top: 1px solid var(--text); }
.chance { border-left: 2px dashed var(--faint); }
.dot { width: .9rem; height: .9rem; margin-left: -.45rem; border-radius: 50%;
  background: var(--bar); }
.dot.other { background: var(--other); } .dot.third { background: var(--good); }
.key { display: inline-block; width: .75rem; height: .75rem;
  border-radius: 50%; margin: 0 .3rem 0 .8rem; }
.wide { overflow-x: auto; margin: .8rem 0; }
table { border-collapse: collapse; font-size: .88rem;
  font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .6rem; text-align: right; white-space: nowrap;
  border-bottom: 1px solid var(--line); }
th { vertical-align: bottom; font-weight: 600; white-space: normal;
  max-width: 8rem; overflow-wrap: normal; }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0;
  background: var(--back); white-space: normal; min-width: 8rem; }
td.text, th.text { text-align: left; white-space: normal; min-width: 14rem; }
tr.chosen td { font-weight: 700; }
figure { margin: .6rem 1.2rem .6rem 0; display: inline-block; }
svg { display: block; max-width: 100%; height: auto; }
svg text { fill: var(--text); font: 11px system-ui, sans-serif; }
details { margin: .8rem 0; } summary { cursor: pointer; }
code { font-size: .9em; }
@media (max-width: 40rem) { .bar { grid-template-columns: 1fr auto; }
  .bar .track { grid-column: 1 / -1; grid-row: 2; }
  th, td { padding: .3rem .4rem; } td.text, th.text { min-width: 10rem; }
  th:first-child, td:first-child { min-width: 6.5rem; max-width: 8rem; }
  .texts th:first-child, .texts td:first-child { min-width: 3.4rem;
  overflow-wrap: normal; } }
"""
