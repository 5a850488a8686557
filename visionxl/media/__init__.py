"""Files of video: reading and writing frames, pictures and films, notes, and what is beside the
pictures. `visionxl.video` is the door to it.
"""
