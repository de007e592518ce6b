"""Track a video with a trained model and print who is where.

python examples/track_video.py RUN video.mp4
"""

import sys

import tdtrack

engine = tdtrack.load_engine(sys.argv[1])
source = tdtrack.open_source(sys.argv[2])
tracker = tdtrack.Tracker(frame_rate=source.frame_rate)
for frame in source:
    tracks = tracker.update(engine(frame.image))
    for track_id, box in zip(tracks.track_id, tracks.xyxy):
        print(f"{frame.seconds:8.2f} s  person {track_id:4d} at {box.round().astype(int).tolist()}")
