"""A database as FireMail makes it: its tables, and rows as it writes them."""

import hashlib
import sqlite3
from pathlib import Path
from typing import Any

_SCHEMA = """
CREATE TABLE users (
    id INTEGER PRIMARY KEY AUTOINCREMENT, username TEXT UNIQUE NOT NULL, password TEXT NOT NULL,
    password_hash TEXT NOT NULL, salt TEXT NOT NULL, is_admin INTEGER DEFAULT 0,
    created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP, updated_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP);
CREATE TABLE emails (
    id INTEGER PRIMARY KEY AUTOINCREMENT, user_id INTEGER NOT NULL, email TEXT NOT NULL,
    password TEXT NOT NULL, mail_type TEXT DEFAULT 'outlook', server TEXT, port INTEGER,
    use_ssl INTEGER DEFAULT 1, client_id TEXT, refresh_token TEXT, access_token TEXT,
    last_check_time TIMESTAMP, enable_realtime_check INTEGER DEFAULT 0,
    created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP, updated_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP,
    FOREIGN KEY (user_id) REFERENCES users (id), UNIQUE (user_id, email));
CREATE TABLE mail_records (
    id INTEGER PRIMARY KEY AUTOINCREMENT, email_id INTEGER NOT NULL, subject TEXT, sender TEXT,
    received_time TIMESTAMP, content TEXT, folder TEXT, has_attachments INTEGER DEFAULT 0,
    created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP, FOREIGN KEY (email_id) REFERENCES emails (id));
CREATE TABLE attachments (
    id INTEGER PRIMARY KEY AUTOINCREMENT, mail_id INTEGER NOT NULL, filename TEXT, content_type TEXT,
    size INTEGER, content BLOB, created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP,
    FOREIGN KEY (mail_id) REFERENCES mail_records (id) ON DELETE CASCADE);
CREATE TABLE system_config (
    id INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT UNIQUE NOT NULL, value TEXT, description TEXT,
    created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP, updated_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP);
"""


class FireMailDatabase:
    """The file, filled by the test."""

    def __init__(self, file: Path, schema: str = _SCHEMA) -> None:
        self.file = file
        self._connection = sqlite3.connect(file)
        self._connection.executescript(schema)

    def user(self, name: str, password: str, **more: Any) -> int:
        """A user, with the hash that FireMail stores; `password` also in clear, as it does."""
        salt = "0123456789abcdef0123456789abcdef"
        digest = hashlib.pbkdf2_hmac("sha256", password.encode(), salt.encode(), 100_000).hex()
        return self.put(
            "users", **{"username": name, "password": password, "password_hash": digest, "salt": salt} | more
        )

    def mailbox(self, user_id: int, email: str, **more: Any) -> int:
        """A mailbox on an IMAP server."""
        fields = {"password": "canary-pass", "mail_type": "imap", "server": "imap.example.com", "port": 993}
        return self.put("emails", **{"user_id": user_id, "email": email} | fields | more)

    def mail(self, email_id: int, subject: str, content: str = "text", **more: Any) -> int:
        """A mail record."""
        fields = {"sender": "A <a@x.example>", "received_time": "2026-01-05 10:00:00", "folder": "INBOX"}
        return self.put(
            "mail_records", **{"email_id": email_id, "subject": subject, "content": content} | fields | more
        )

    def put(self, table: str, **fields: Any) -> int:
        """A row; gives its number."""
        names, marks = ", ".join(fields), ", ".join("?" * len(fields))
        done = self._connection.execute(
            f"INSERT INTO {table} ({names}) VALUES ({marks})", tuple(fields.values())
        )
        self._connection.commit()
        return int(done.lastrowid or 0)

    def close(self) -> None:
        self._connection.close()
