"""Readers of result records: terminal, HTML, charts, exporters. They never measure."""
