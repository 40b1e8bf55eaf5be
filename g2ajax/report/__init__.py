"""Pages and charts from plain records: self-contained HTML, and SVG that a paper can take.

from g2ajax.report.page import write_report
from g2ajax.report.records import Report
write_report(Report("A run", ["Trained on ..."], scores, charts, rankings, pictures), path)

Nothing is imported here: the records need no package, the pages need Pillow and jinja2.
"""
