"""RoomRec: deep-learning recommendations for live commerce."""
