"""The models that ship with veintrack; each has its card beside it."""
