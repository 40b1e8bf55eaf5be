"""Pages and charts from plain records: self-contained HTML, and SVG that a paper can take.

from g2ajax.report import Report, charts, write_report
write_report(Report("A run", ["Trained on ..."], scores, charts, rankings, pictures), path)
"""

from g2ajax.report.names import words
from g2ajax.report.page import Picture, page, report_page, write_report
from g2ajax.report.records import Report, Table

__all__ = ["Picture", "Report", "Table", "page", "report_page", "words", "write_report"]
