"""A past day computed again, from what was known then, and compared with what happened.

day.py       what a day is computed from, and the computing: no database, nothing stored
reading.py   the same from the database, as known at a time; and what happened, in the same records
diff.py      both side by side: the first stage that differs, and every difference in it
revision.py  the computing by another revision of the code, in a process of its own
proof.py     the daily proof
changed.py   which bars and actions differ between two times
"""
