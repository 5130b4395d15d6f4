# A server of the recogniser small, on a CPU, without root (docs/serve.md):
#
#     docker build --tag affetto .
#     docker run --rm --publish 127.0.0.1:8000:8000 --env AFFETTO_API_KEY affetto
FROM python:3.11-slim

ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONDONTWRITEBYTECODE=1

WORKDIR /affetto
COPY pyproject.toml README.md LICENSE ./
COPY tools/install-torch tools/
RUN tools/install-torch python
COPY src src
RUN pip install '.[serve,media]' && useradd --create-home affetto

USER affetto
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8000/health', timeout=4)"]
CMD ["affetto", "serve", "--host", "0.0.0.0"]
