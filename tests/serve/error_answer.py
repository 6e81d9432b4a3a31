"""What every error over HTTP looks like."""


def check_error(response, status, code, text):
    """Every failure is JSON of one form."""
    assert (response.status_code, response.headers["content-type"]) == (status, "application/json")
    found = response.json()
    assert found["code"] == code
    assert text in found["error"]
    assert set(found) <= {"error", "code", "request_id"}
