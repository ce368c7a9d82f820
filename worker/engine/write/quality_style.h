// The style of a quality report's page: light or dark as the reader has it.
#pragma once

#include <string_view>

namespace slipway::engine {

// Without the characters that XML escapes. s0 to s9 are lines, f0 to f9 areas and b0 to b9 the legend's squares.
inline constexpr std::string_view kQualityStyle = R"(
:root{--ground:#f6f7f9;--card:#fff;--ink:#1c2430;--faint:#66717f;--rule:#e2e6eb;--good:#1a7f4b;--bad:#c4362c;--kept:#b9c2cd;
--c0:#2f6fd6;--c1:#d9772b;--c2:#2a9d6e;--c3:#b1489b;--c4:#7a5cd0;--c5:#c2a11d;--c6:#1f9bb3;--c7:#c4455a;--c8:#6c7f2f;--c9:#8a6a55}
@media (prefers-color-scheme:dark){:root{--ground:#12161c;--card:#1a2029;--ink:#e4e8ee;--faint:#93a0af;--rule:#2c3540;
--good:#4fc98a;--bad:#f2766b;--kept:#4a5666;--c0:#6aa3f5;--c1:#f0a05c;--c2:#5cc99a;--c3:#dc85c8;--c4:#a892f0;--c5:#e0c552;
--c6:#5cc6da;--c7:#ee8092;--c8:#a7bb62;--c9:#bf9f88}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:1280px;padding:32px 20px 64px;background:var(--ground);color:var(--ink);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}
h1{font-size:28px;line-height:1.2;margin:0 0 4px}
h2{font-size:18px;margin:0 0 4px}
p{margin:4px 0 12px}
.faint,caption,.note{color:var(--faint)}
section{background:var(--card);border:1px solid var(--rule);border-radius:10px;padding:18px 20px;margin:16px 0;overflow-x:auto}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:12px;margin:20px 0}
.cards div{background:var(--card);border:1px solid var(--rule);border-radius:10px;padding:12px 14px}
.cards b{display:block;font-size:22px;line-height:1.3;font-variant-numeric:tabular-nums}
.cards span{color:var(--faint);font-size:13px}
.good{color:var(--good)}
.outside,.outside td{color:var(--bad)}
table{border-collapse:collapse;width:100%;font-size:13px;font-variant-numeric:tabular-nums}
th,td{text-align:right;padding:4px 8px;border-bottom:1px solid var(--rule);white-space:nowrap}
th{color:var(--faint);font-weight:600}
th:first-child,td:first-child,.word{text-align:left}
td.wrap{white-space:normal}
code{font:12px/1.4 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}
details{border-top:1px solid var(--rule);padding:4px 0}
summary{cursor:pointer;padding:4px 0}
svg{display:block;width:100%;height:auto;min-width:640px}
svg text{font:12px system-ui,-apple-system,"Segoe UI",Roboto,Arial,sans-serif;fill:var(--faint)}
.grid{stroke:var(--rule)}
.bound{stroke:var(--bad);stroke-width:1.5;stroke-dasharray:5 4}
.kept{fill:var(--kept)}
.bad{fill:var(--bad)}
polyline{fill:none;stroke-width:2;stroke-linejoin:round}
.legend span{margin-right:14px;white-space:nowrap;font-size:13px}
.legend i{display:inline-block;width:10px;height:10px;border-radius:2px;margin-right:5px}
.s0{stroke:var(--c0)}.s1{stroke:var(--c1)}.s2{stroke:var(--c2)}.s3{stroke:var(--c3)}.s4{stroke:var(--c4)}
.s5{stroke:var(--c5)}.s6{stroke:var(--c6)}.s7{stroke:var(--c7)}.s8{stroke:var(--c8)}.s9{stroke:var(--c9)}
.f0{fill:var(--c0)}.f1{fill:var(--c1)}.f2{fill:var(--c2)}.f3{fill:var(--c3)}.f4{fill:var(--c4)}
.f5{fill:var(--c5)}.f6{fill:var(--c6)}.f7{fill:var(--c7)}.f8{fill:var(--c8)}.f9{fill:var(--c9)}
.b0{background:var(--c0)}.b1{background:var(--c1)}.b2{background:var(--c2)}.b3{background:var(--c3)}.b4{background:var(--c4)}
.b5{background:var(--c5)}.b6{background:var(--c6)}.b7{background:var(--c7)}.b8{background:var(--c8)}.b9{background:var(--c9)}
@media print{body{background:#fff}section,.cards div{break-inside:avoid}}
)";

}  // namespace slipway::engine
