"""Figures of the reports, drawn from plain data; the only modules that import plotly."""
