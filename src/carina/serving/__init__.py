"""THE HOSPITAL SIDE: films come in from the PACS, a worklist in order of need comes out.

Works without any module of ``training``. What comes in is stored durably before it is acknowledged, what
cannot be analysed stands above what was not flagged, and a person reads every study.
"""
