"""`mgseg edit`: making and correcting masks in the browser. Needs the extra `edit`."""
