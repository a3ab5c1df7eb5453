"""Pictures and pages made from results: plots with matplotlib, the report as one HTML file. Needs no model."""
