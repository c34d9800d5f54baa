"""`mgseg edit`: paint, segment and correct masks in the browser. Needs the extra `edit`."""
