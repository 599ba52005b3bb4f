// The server's API as this page uses it: requests, errors in the server's one shape, the curl line.

const KEY_IN_CURL = '$SQLWRIGHT_API_KEY';

/** What the server (or the network) said against a request. */
export class ApiError extends Error {
  constructor({ message, hint = '', status = 0, param = null, requestId = '', retryAfter = '' }) {
    super(message);
    Object.assign(this, { hint, status, param, requestId, retryAfter });
  }
}

/** The JSON answer of `path`: POST where there is a `body`. Throws ApiError, or AbortError. */
export async function call(path, { body, key = '', signal } = {}) {
  const response = await send(path, { body, key, signal });
  const answer = await response.json().catch((error) => {
    if (error.name === 'AbortError') throw error;
    return null;
  });
  if (!response.ok) throw refusal(response, answer?.error);
  if (answer === null || typeof answer !== 'object') {
    throw new ApiError({ message: `${path} did not answer with JSON`, status: response.status });
  }
  return answer;
}

async function send(path, { body, key, signal }) {
  const headers = { Accept: 'application/json' };
  if (body) headers['Content-Type'] = 'application/json';
  if (key) headers.Authorization = `Bearer ${key}`;
  try {
    return await fetch(path, {
      method: body ? 'POST' : 'GET',
      headers,
      body: body && JSON.stringify(body),
      signal,
    });
  } catch (error) {
    if (error.name === 'AbortError') throw error;
    throw new ApiError({
      message: 'The server can’t be reached',
      hint: 'Check that it is running, then try again.',
    });
  }
}

function refusal(response, error) {
  return new ApiError({
    message: error?.message ?? `The server answered ${response.status} ${response.statusText}`,
    hint: error?.hint ?? '',
    param: error?.param ?? null,
    requestId: error?.request_id ?? '',
    status: response.status,
    retryAfter: response.headers.get('Retry-After') ?? '',
  });
}

/** The shell command that sends `body` to /generate-sql; a key appears as a variable only. */
export function curlCommand(body, withKey) {
  const lines = [
    `curl -sS ${location.origin}/generate-sql`,
    "-H 'Content-Type: application/json'",
    withKey ? `-H "Authorization: Bearer ${KEY_IN_CURL}"` : null,
    `-d '${JSON.stringify(body).replaceAll("'", "'\\''")}'`,
  ];
  return lines.filter(Boolean).join(' \\\n  ');
}
