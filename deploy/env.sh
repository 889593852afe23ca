# shellcheck shell=sh
# Sourced by .venv/bin/activate and deploy/run: gives the shell this project's environment (deploy/environment.py).
# Works in every POSIX shell; needs VIRTUAL_ENV. NATIVE_DATABASE: leave | resume (default) | start.
if tradecore_exports=$("$VIRTUAL_ENV/bin/python" "$VIRTUAL_ENV/../deploy/environment.py" \
    --database "${NATIVE_DATABASE:-resume}"); then
    eval "$tradecore_exports"
    unset tradecore_exports
else
    unset tradecore_exports
    echo "The environment of this project is not set: see the error above." >&2
    false
fi
