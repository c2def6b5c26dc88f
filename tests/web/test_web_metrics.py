from mien.web.metrics import Metrics


def test_each_server_counts_for_itself() -> None:
    one, other = Metrics(), Metrics()
    one.faces.inc(3)
    one.requests.labels("/v1/read", "200").inc()
    text = one.text().decode()
    assert "mien_faces_total 3.0" in text
    assert 'mien_requests_total{route="/v1/read",status="200"} 1.0' in text
    assert "mien_faces_total 0.0" in other.text().decode()
