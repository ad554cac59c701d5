"""The page and the REST interface: what people and programs see of the hospital side.

Everything the page does it does through ``/api/v1``. No script or style comes from elsewhere, and nothing
that was sent is ever trusted as markup.
"""
