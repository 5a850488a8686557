"""More than one worker: a prior spread over devices or machines, and work handed out in pieces.

Ray is imported when a crew of its workers is asked for, and never before.
"""
