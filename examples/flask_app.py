"""A Flask service that reports its own work through huahuo, in one process.

Run it:      pip install 'huahuo[flask]' && python examples/flask_app.py
Then:        curl -X POST http://127.0.0.1:5000/orders/17/pack
and watch:   huahuo tail http://127.0.0.1:8765 group/ops --data huahuo-data
Mail is a plug-in, which `/emails/…` needs; leave both out if you have no mailboxes.

`HUAHUO_DATA`, `HUAHUO_PORT` and the other settings count here too; `FLASK_PORT` is Flask's own port.
"""

import os

from flask import Flask, Response, jsonify, request

from huahuo import HuahuoError, Service
from huahuo.mailcheck import mail

app = Flask(__name__)
service = Service.from_environment(plugins=[mail()])


@app.post("/orders/<int:order_id>/pack")
def pack(order_id: int) -> Response:
    """Tell the `ops` group. Any request thread may call the service; it returns once the event is durable."""
    position = service.publish("group/ops", "order_packed", {"order_id": order_id})
    return jsonify(position=position)


@app.post("/emails/<int:email_id>/status")
def status(email_id: int) -> Response:
    """Report the status of a mailbox that this application works on by itself."""
    wanted = request.get_json()
    position = service.update_email_status(email_id, wanted["status"], wanted.get("message", ""))
    return jsonify(position=position)


@app.post("/emails/<int:email_id>/progress")
def progress(email_id: int) -> Response:
    """Report how far it is."""
    wanted = request.get_json()
    position = service.progress(email_id, wanted["percent"], wanted.get("message", ""))
    return jsonify(position=position)


@app.post("/notify")
def notify() -> Response:
    """Tell everybody."""
    return jsonify(position=service.notify(request.get_json()["message"], level="warning"))


@app.errorhandler(HuahuoError)
def refused(error: HuahuoError) -> tuple[Response, int]:
    """What huahuo refuses is the caller's mistake: its text says which."""
    return jsonify(error=str(error)), 400


if __name__ == "__main__":
    service.start()
    print(f"huahuo listens on {service.url}", flush=True)
    try:
        app.run(port=int(os.environ.get("FLASK_PORT", "5000")), threaded=True)
    finally:
        service.stop()
