"""The HTML pages: their data, and the templates that draw it."""
