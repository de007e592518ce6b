"""Linking detections into tracks: Kalman filter, costs, assignment, tracker, calibration of the appearance ceiling."""

from tdtrack.association.tracker import Tracker

__all__ = ["Tracker"]
