"""The parts of the HTML report: markup, scales, charts and tables."""
