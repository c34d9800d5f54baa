"""Reading and writing of pictures, videos and masks; drawing of overlays."""
