"""The report: tables, figures and pictures of Results, published numbers among them, and the page that holds them."""

from cxrlocus.report.entries import Entry, column_names, distinct
from cxrlocus.report.page import render, write_report
from cxrlocus.report.published import published_results
from cxrlocus.report.tables import Pivot, accuracy_table, markdown_table, pivot, text_table

__all__ = [
    "Entry",
    "Pivot",
    "accuracy_table",
    "column_names",
    "distinct",
    "markdown_table",
    "pivot",
    "published_results",
    "render",
    "text_table",
    "write_report",
]
