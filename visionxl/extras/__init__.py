"""What the preset `best` adds to the paper: a photographic spectrum, optical flow and motion, total
variation, better starts.

Nothing in `paper` or `official` needs this folder."""
