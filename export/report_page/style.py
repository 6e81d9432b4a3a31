"""The style of the report page, and the policy that lets the page load nothing and run nothing.

Rules of this file: no address in it; colours as variables, for light, dark and print; text at least 4.5 to 1 against
its ground, lines at least 3 to 1.
"""

import base64
import hashlib
from typing import Final

_LIGHT: Final = """
--ground:#ffffff;--text:#1b1f24;--quiet:#57606a;--rule:#d0d7de;--panel:#f6f8fa;
--good:#1a7f37;--warn:#9a6700;--bad:#cf222e;--served:#0b5cad;--eager:#b34700;--control:#1b7a3d;--bound:#57606a;
--level0:#dcebfa;--level1:#abcff3;--level2:#6ba6e1;--level3:#2f76c2;--level4:#123d73;--cross:#ffffff;
"""
_DARK: Final = """
--ground:#0f1419;--text:#e6eaef;--quiet:#9aa5b1;--rule:#38424d;--panel:#171e25;
--good:#56d364;--warn:#e3b341;--bad:#ff7b72;--served:#6cb0ff;--eager:#ffa05c;--control:#6fd08c;--bound:#9aa5b1;
--level0:#1b2f45;--level1:#24507d;--level2:#3577b8;--level3:#6aaae8;--level4:#c3e0ff;--cross:#0f1419;
"""

STYLE: Final = f"""
:root{{color-scheme:light dark;{_LIGHT}}}
@media (prefers-color-scheme:dark){{:root{{{_DARK}}}}}
*{{box-sizing:border-box}}
body{{margin:0;background:var(--ground);color:var(--text);
font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif;
-webkit-text-size-adjust:100%}}
main{{max-width:64rem;margin:0 auto;padding:1rem}}
h1{{font-size:1.5rem;line-height:1.25;margin:.25rem 0 1rem}}
h2{{font-size:1.15rem;margin:2rem 0 .5rem;padding-top:.75rem;border-top:1px solid var(--rule)}}
p,ul{{margin:.5rem 0;max-width:44rem}}
ul{{padding-left:1.25rem}}
li{{margin:.35rem 0}}
code{{font:.9em ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;overflow-wrap:anywhere}}
pre{{background:var(--panel);border:1px solid var(--rule);border-radius:6px;padding:.75rem;margin:.5rem 0;
white-space:pre-wrap;max-width:44rem}}
.quiet,caption{{color:var(--quiet)}}
.verdict{{border-left:.4rem solid var(--mark);background:var(--panel);padding:.75rem 1rem;border-radius:0 6px 6px 0}}
.verdict p{{margin:0;font-size:1.1rem}}
.verdict strong{{color:var(--mark)}}
.equivalent{{--mark:var(--good)}}.sensitive-verdict{{--mark:var(--warn)}}.refused{{--mark:var(--bad)}}
dl{{display:grid;grid-template-columns:max-content 1fr;gap:.25rem 1rem;margin:.5rem 0}}
dt{{color:var(--quiet)}}dd{{margin:0;min-width:0;overflow-wrap:anywhere}}
.plots{{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,25rem),1fr));gap:1.5rem 2rem}}
figure{{margin:0;min-width:0}}
figcaption{{font-weight:600;margin-bottom:.35rem}}
figcaption span{{display:block;font-weight:400;color:var(--quiet);font-size:.9rem}}
svg{{display:block;width:100%;max-width:34rem;height:auto;overflow:visible}}
.scroll{{overflow-x:auto;margin:.5rem 0}}
.scroll:focus-visible,summary:focus-visible{{outline:2px solid var(--served);outline-offset:2px}}
table{{border-collapse:collapse;font-size:.9rem;font-variant-numeric:tabular-nums}}
caption{{text-align:left;padding:.25rem 0;font-size:.9rem}}
th,td{{padding:.3rem .75rem .3rem 0;border-bottom:1px solid var(--rule);text-align:left;vertical-align:top}}
thead th{{white-space:nowrap;border-bottom-width:2px}}
tbody th{{font-weight:600}}
.n{{text-align:right;white-space:nowrap}}
.w{{display:inline-block;min-width:13rem}}
caption span{{display:block;position:sticky;left:0;width:max-content;max-width:calc(100vw - 2rem)}}
.yes{{color:var(--good)}}.no{{color:var(--bad);font-weight:600}}
details{{margin:.5rem 0}}summary{{cursor:pointer;padding:.4rem 0;font-weight:600}}
text{{font:11px system-ui,-apple-system,"Segoe UI",Roboto,Arial,sans-serif;fill:var(--text)}}
text.tick{{fill:var(--quiet)}}text.small{{font-size:10px}}text.label{{font-weight:600}}
text.leg-served{{fill:var(--served)}}text.leg-eager{{fill:var(--eager)}}
text.leg-control{{fill:var(--control)}}text.leg-tolerance{{fill:var(--bound)}}
.line{{stroke-width:1.8;stroke-linejoin:round}}.leader{{stroke-width:.8;opacity:.7}}
.leg-served{{stroke:var(--served)}}.leg-eager{{stroke:var(--eager);stroke-dasharray:5 2}}
.leg-control{{stroke:var(--control);stroke-dasharray:2 2}}.leg-tolerance{{stroke:var(--bound);stroke-dasharray:7 4}}
.leader{{stroke-dasharray:none}}text[class]{{stroke:none}}
line.leg-served,polyline.leg-served{{stroke-width:2.4}}line.leader{{stroke-width:.8}}
.grid{{stroke:var(--rule);stroke-width:.6}}.axis{{stroke:var(--quiet);stroke-width:.8}}
.mark{{stroke:var(--eager);stroke-width:1;stroke-dasharray:3 2}}
.bar{{fill:var(--served)}}
.level0{{fill:var(--level0)}}.level1{{fill:var(--level1)}}.level2{{fill:var(--level2)}}
.level3{{fill:var(--level3)}}.level4{{fill:var(--level4)}}
.failed{{fill:var(--bad)}}.cross{{stroke:var(--cross);stroke-width:1.2}}
.sensitive{{fill:url(#hatching)}}.hatch-ground{{fill:var(--panel)}}.hatch-stroke{{fill:var(--warn)}}
.absent{{fill:none;stroke:var(--rule);stroke-width:.6}}
.pointer{{fill:var(--text)}}
@media print{{:root{{{_LIGHT}}}main{{max-width:none;padding:0}}
figure,tr,.verdict{{break-inside:avoid}}h2{{break-after:avoid}}.scroll{{overflow:visible}}
table{{font-size:.75rem}}*{{print-color-adjust:exact;-webkit-print-color-adjust:exact}}
details::details-content{{content-visibility:visible;block-size:auto}}}}
"""


def content_policy() -> str:
    """Return a policy under which this style is all that the page may use."""
    digest = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode("ascii")
    return f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
