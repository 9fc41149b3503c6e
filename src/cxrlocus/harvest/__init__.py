"""Boxes from a whole archive: journalled shard by shard, resumable, exported as tables and lists."""
