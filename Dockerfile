# One image for every process of the system: `credits worker`, `jobs`, `webhooks`, `gateway` and the rest.
# It has no compiler, no package cache and no server in it, and does not run as root.

FROM python:3.12-slim AS build
WORKDIR /src
COPY pyproject.toml constraints.txt LICENSE ./
COPY producers producers
COPY workers workers
COPY webhooks webhooks
COPY examples examples
RUN python -m venv /opt/credits \
 && /opt/credits/bin/pip install --no-cache-dir --disable-pip-version-check -c constraints.txt \
      '.[cli,workers,webhooks,gateway]' \
 && /opt/credits/bin/pip uninstall --yes --quiet pip

FROM python:3.12-slim
# The same number on every machine, so that volumes can be moved. Volumes begin with the owner of their folder here.
RUN useradd --system --user-group --uid 10001 --no-create-home --home-dir /nonexistent credits \
 && install --directory --owner credits --group credits /acl /var/lib/credits
COPY --from=build /opt/credits /opt/credits
ENV PATH=/opt/credits/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
USER credits
WORKDIR /var/lib/credits
# A process ends in good order on SIGTERM. What is healthy differs from process to process: docker-compose.yml says it.
STOPSIGNAL SIGTERM
CMD ["credits", "--help"]
