"""Boxes, anchors, matching, NMS and RoIAlign with static shapes: pure functions of one image."""
