"""The page, in a browser, against the real server; needs Chromium and the built page."""
