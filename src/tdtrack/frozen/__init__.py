"""Teach the detector you already have: a small embedding head on the feature maps that a frozen detector computes anyway.

``graph`` reads the detector, ``description`` and ``decode`` understand its outputs, ``pooling`` reads its maps at boxes,
``cache`` keeps what was read, ``head`` and ``learn`` learn from it, and ``merge`` writes detector and head as one file.
"""
