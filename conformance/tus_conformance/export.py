"""The results for programs and browsers: JSON, JUnit XML and one HTML page."""

import json
from collections.abc import Iterator
from html import escape
from xml.etree import ElementTree

from tus_conformance import __version__
from tus_conformance.report import Report
from tus_conformance.run import Outcome, Result

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem }
table { border-collapse: collapse; width: 100% }
td, th { border-bottom: 1px solid #ccc; padding: .3rem .6rem; text-align: left }
td { vertical-align: top }
pre { background: #f4f4f4; overflow-x: auto; padding: .6rem }
.PASS { color: #176b2c } .FAIL { color: #b00020; font-weight: bold }
.SKIP { color: #666 } .ERROR { color: #80117a; font-weight: bold }
"""


def write_json(report: Report) -> str:
    """The results as one JSON object: `url`, `extensions`, `summary` and `cases`."""
    return json.dumps(
        {
            "suite": f"tus-conformance {__version__}",
            "url": report.url,
            "extensions": sorted(report.features.extensions),
            "summary": {str(result): report.count(result) for result in Result},
            "cases": [_entry(one) for one in report.outcomes],
        },
        indent=2,
        ensure_ascii=False,
    )


def _entry(one: Outcome) -> dict[str, object]:
    return {
        "id": one.case.id,
        "level": str(one.case.level),
        "title": one.case.title,
        "source": one.case.source,
        "sentence": one.case.sentence,
        "result": str(one.result),
        "expected": one.expected,
        "came": one.came,
        "log": list(one.log),
        "seconds": round(one.seconds, 3),
    }


def write_junit(report: Report) -> str:
    """The results as JUnit XML, one test suite for each section."""
    root = ElementTree.Element("testsuites", name="tus-conformance")
    for key, outcomes in _by_section(report):
        suite = ElementTree.SubElement(root, "testsuite", name=key, tests=str(len(outcomes)))
        for result, name in _JUNIT_COUNTS.items():
            suite.set(name, str(sum(1 for one in outcomes if one.result is result)))
        for one in outcomes:
            _junit_case(suite, one)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True)


_JUNIT_COUNTS = {Result.FAIL: "failures", Result.ERROR: "errors", Result.SKIP: "skipped"}
_JUNIT_TAGS = {Result.FAIL: "failure", Result.ERROR: "error", Result.SKIP: "skipped"}


def _junit_case(suite: ElementTree.Element, one: Outcome) -> None:
    name = f"{one.case.id} ({one.case.level}) {one.case.title}"
    element = ElementTree.SubElement(
        suite, "testcase", classname=one.case.section, name=name, time=f"{one.seconds:.3f}"
    )
    if tag := _JUNIT_TAGS.get(one.result):
        wrong = f"expected {one.expected}; came {one.came}" if one.expected else one.came
        detail = ElementTree.SubElement(element, tag, message=_xml_text(wrong))
        detail.text = _xml_text("\n".join([one.case.source, one.case.sentence, *one.log]))


def _xml_text(text: str) -> str:
    """The text without the control characters that XML 1.0 cannot hold."""
    return "".join(letter if letter >= " " or letter in "\t\n" else "?" for letter in text)


def write_html(report: Report) -> str:
    """The results as one HTML page without scripts or anything from elsewhere."""
    parts = [f"<h1>tus conformance of {escape(report.url)}</h1>"]
    counts = ", ".join(f"{report.count(result)} {result}" for result in Result)
    parts.append(f"<p>tus-conformance {__version__}: {counts}</p>")
    for key, outcomes in _by_section(report):
        parts.append(f"<h2>{escape(key)}</h2><table>")
        parts.append("<tr><th>case<th>level<th>title and sentence<th>result</tr>")
        parts += [_html_row(one) for one in outcomes]
        parts.append("</table>")
    head = f'<meta charset="utf-8"><title>tus conformance</title><style>{STYLE}</style>'
    return f"<!doctype html><html><head>{head}</head><body>{''.join(parts)}</body></html>"


def _html_row(one: Outcome) -> str:
    sentence = f"<small>{escape(one.case.source)}: {escape(one.case.sentence)}</small>"
    cell = f"{escape(one.case.title)}<br>{sentence}"
    if one.expected:
        cell += f"<p>expected: {escape(one.expected)}<br>came: {escape(one.came)}</p>"
    elif one.came:
        cell += f"<p>{escape(one.came)}</p>"
    if one.log:
        log = escape("\n".join(one.log))
        cell += f"<details><summary>messages</summary><pre>{log}</pre></details>"
    result = f'<td class="{one.result}">{one.result}'
    return f"<tr><td>{one.case.id}<td>{one.case.level}<td>{cell}{result}</tr>"


def _by_section(report: Report) -> Iterator[tuple[str, list[Outcome]]]:
    for key in dict.fromkeys(one.case.section for one in report.outcomes):
        yield key, [one for one in report.outcomes if one.case.section == key]
