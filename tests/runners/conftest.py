import os
import secrets

os.environ.setdefault("RAY_AUTH_MODE", "token")  # Ray reads both when it is imported, and a test imports it
os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
