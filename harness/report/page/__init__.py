"""The HTML pages: their data as JSON and compressed chunks, and the templates that draw it."""
