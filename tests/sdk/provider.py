"""A small provider of what the built-in upstream does not make: images, sounds, rankings, stored responses.
Answers in the shapes of the real ones, and remembers what it was asked."""

import base64
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

# One pixel.
PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
SPOKEN = bytes(range(256)) * 64
SECONDS_HEARD = 7
HEARD = "Mind the gap."
RESPONSE_USAGE = {
    "input_tokens": 11,
    "input_tokens_details": {"cached_tokens": 4},
    "output_tokens": 6,
    "output_tokens_details": {"reasoning_tokens": 2},
    "total_tokens": 17,
}


def response(number, model):
    text = {"type": "output_text", "text": "Stored.", "annotations": [], "logprobs": []}
    message = {"type": "message", "id": f"msg_{number}", "status": "completed", "role": "assistant", "content": [text]}
    return {
        "id": f"resp_{number}", "object": "response", "created_at": 1, "status": "completed", "error": None,
        "incomplete_details": None, "instructions": None, "metadata": {}, "model": model, "output": [message],
        "parallel_tool_calls": True, "temperature": 1.0, "tool_choice": "auto", "tools": [], "top_p": 1.0,
        "usage": RESPONSE_USAGE,
    }


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def body(self):
        if "chunked" not in self.headers.get("transfer-encoding", ""):
            return self.rfile.read(int(self.headers.get("content-length", 0)))
        pieces = []
        while size := int(self.rfile.readline(), 16):
            pieces.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(pieces)

    def answer(self, body, content_type="application/json", status=200):
        if not isinstance(body, bytes):
            body = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", content_type)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def events(self, *events):
        text = "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events)
        self.answer(text.encode(), "text/event-stream")

    def do_POST(self):
        body = self.body()
        provider = self.server.provider
        provider.asked.append((self.path, dict(self.headers), body))
        route = self.path.removeprefix("/v1")
        if route.startswith("/responses/") and route.endswith("/cancel"):
            error = {"message": "Cannot cancel a synchronous response.", "type": "invalid_request_error"}
            return self.answer({"error": error | {"param": None, "code": None}}, status=400)
        if self.headers.get("content-type", "").startswith("multipart/"):
            field = lambda name: re.search(rb'name="%s"\r\n\r\n(.*?)\r\n--' % name.encode(), body, re.S)
            asked = {name: field(name)[1].decode() for name in ("model", "response_format") if field(name)}
        else:
            asked = json.loads(body)
        if route == "/responses":
            return self.respond(provider, asked)
        make = {
            "/images/generations": self.images, "/images/edits": self.images, "/audio/speech": self.speak,
            "/audio/transcriptions": self.hear, "/audio/translations": self.hear, "/rerank": self.rank,
        }
        return make[route](asked)

    def do_GET(self):
        route = self.path.removeprefix("/v1/responses/").split("?")[0]
        if route.endswith("/input_items"):
            item = {"type": "message", "id": "msg_0", "role": "user", "status": "completed",
                    "content": [{"type": "input_text", "text": "Keep this."}]}
            return self.answer(
                {"object": "list", "data": [item], "first_id": "msg_0", "last_id": "msg_0", "has_more": False}
            )
        return self.answer(self.server.provider.stored[route])

    def do_DELETE(self):
        route = self.path.removeprefix("/v1/responses/")
        del self.server.provider.stored[route]
        self.answer({"id": route, "object": "response", "deleted": True})

    def respond(self, provider, asked):
        made = response(len(provider.asked), asked["model"])
        provider.stored[made["id"]] = made
        if not asked.get("stream"):
            return self.answer(made)
        begun = made | {"status": "in_progress", "output": [], "usage": None}
        item = made["output"][0]
        place = {"item_id": item["id"], "output_index": 0, "content_index": 0}
        return self.events(
            {"type": "response.created", "sequence_number": 0, "response": begun},
            {"type": "response.output_text.delta", "sequence_number": 1, "delta": "Stored.", "logprobs": []} | place,
            {"type": "response.output_text.done", "sequence_number": 2, "text": "Stored.", "logprobs": []} | place,
            {"type": "response.completed", "sequence_number": 3, "response": made},
        )

    def images(self, asked):
        pixel = base64.b64encode(PIXEL).decode()
        if not asked.get("stream"):
            return self.answer({"created": 1, "data": [{"b64_json": pixel}] * int(asked.get("n", 1))})
        common = {"b64_json": pixel, "created_at": 1, "size": "1024x1024", "quality": "low",
                  "background": "opaque", "output_format": "png"}
        return self.events(
            {"type": "image_generation.partial_image", "partial_image_index": 0} | common,
            {"type": "image_generation.completed"} | common,
        )

    def speak(self, _):
        self.answer(SPOKEN, "audio/mpeg")

    def hear(self, asked):
        shape = asked.get("response_format", "json")
        if shape == "text":
            return self.answer(HEARD.encode() + b"\n", "text/plain")
        if shape == "verbose_json":
            return self.answer({"task": "transcribe", "language": "english", "duration": float(SECONDS_HEARD),
                                "text": HEARD, "segments": []})
        return self.answer({"text": HEARD, "usage": {"type": "duration", "seconds": SECONDS_HEARD}})

    def rank(self, asked):
        results = [{"index": n, "relevance_score": 1 / (n + 1)} for n in range(len(asked["documents"]))]
        self.answer({"id": "rank-1", "results": results, "meta": {"billed_units": {"search_units": 1}}})


class Provider:
    def __init__(self):
        self.asked = []
        self.stored = {}
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.provider = self
        self.base_url = f"http://127.0.0.1:{self.server.server_port}/v1"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()
