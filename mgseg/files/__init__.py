"""Files: pictures, videos and masks read and written, and the drawing of overlays."""
