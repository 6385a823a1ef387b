"""The explorer page: what a model answers, why, and what turning its knobs changes.

    source      a model that can be asked: a SavedModel, or anything of the same shape
    offer       what its signatures let the page show: knobs, choices, fields
    shop        users, items, histories and images of the canonical tables
    wish        one request of the page, out of a URL
    inputs      a wish as the arrays of a signature
    answer      a signature's arrays as rows with the parts of each score
    measures    revenue and diversity of a list, moves between two lists
    explorer    all of it together, without HTTP
    app         the same over HTTP, and the page

Importing this package imports neither TensorFlow nor a web framework.
"""
