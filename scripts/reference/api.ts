import { permissionAt, type Route, ROUTES } from '../../src/contract/index.ts'
import { type Field, fieldsOf } from '../../src/domain/kinds/fields.ts'
import { bytesText, code, page, table } from './text.ts'

const ROLE_TEXT: Record<Route['auth'], string> = {
  none: 'everybody',
  any: 'any token',
  viewer: 'viewer',
  operator: 'operator',
  admin: 'admin',
  worker: 'worker',
}

/** The page of the HTTP API: routes with roles, what they take, what they answer. */
export function apiPage(): string {
  const groups = new Map<string, Route[]>()
  for (const route of ROUTES) {
    const group = groupOf(route)
    groups.set(group, [...(groups.get(group) ?? []), route])
  }
  return page(
    'HTTP API',
    'the routes',
    'Bodies are JSON, times RFC 3339 in UTC. A token goes as `Authorization: Bearer TOKEN`; each route names the least role. `viewer` may read, `operator` start and steer',
    'runs, `admin` change resources, secrets and tokens; `worker` is for workers alone. What a token may not see is answered as if it were not there (404).',
    'Whatever goes wrong is an RFC 9457 problem, `application/problem+json`, with `code` (see [failures.md](../failures.md)), `detail`, `remediation`, `evidence`, `cause`, `requestId`.',
    'Each answer has `x-request-id`; a request may choose it, and may bring a `traceparent`. The same in OpenAPI 3.1: [openapi.json](../../openapi.json), also at `/openapi.json` of every server.',
    'For Node there is a [typed client](../guides/client.md).',
    '',
    ...table(
      ['method', 'path', 'role', 'what it does'],
      ROUTES.map((route) => [
        route.method,
        `[\`${route.path}\`](#${anchorOf(route)})`,
        ROLE_TEXT[route.auth],
        route.summary,
      ]),
    ),
    ...[...groups].flatMap(([group, routes]) => [`## ${group}`, '', ...routes.flatMap(sectionOf)]),
  )
}

const groupOf = (route: Route): string =>
  route.auth === 'worker' ? 'the exchange of workers' : (permissionAt(route)?.resource ?? 'for everybody')

/** As GitHub makes it from the heading. */
const anchorOf = (route: Route): string =>
  `${route.method} ${route.path}`
    .toLowerCase()
    .replaceAll(/[^\w -]/g, '')
    .replaceAll(' ', '-')

function sectionOf(route: Route): string[] {
  const permission = permissionAt(route)
  const facts = [
    `Role: ${ROLE_TEXT[route.auth]}`,
    ...(permission && route.auth !== 'worker' ? [`permission: \`${permission.resource}.${permission.verb}\``] : []),
    ...(route.bodyBytes > 0 ? [`body up to ${bytesText(route.bodyBytes)}`] : []),
  ]
  const lines = [`### ${route.method} ${code(route.path)}`, '', route.summary, '', `${facts.join('; ')}.`, '']
  // The exchange is no interface for others: its messages are in openapi.json.
  if (route.auth !== 'worker') {
    const rows = [
      ...(route.query ? fieldsOf(route.query) : []).map((field) => rowOf('query', field)),
      ...Object.entries(route.headers ?? {}).map(([name, meaning]) => ['header', code(name), 'text', meaning, '']),
      ...(route.body ? fieldsOf(route.body) : []).map((field) => rowOf('body', field)),
      ...(route.manifest ? [['body', '', 'manifest', 'One or several manifests, as YAML or JSON.', '']] : []),
    ]
    if (rows.length > 0) lines.push(...table(['in', 'name', 'type', 'meaning', 'limits'], rows))
  }
  lines.push(
    ...table(
      ['status', 'type', 'answer'],
      route.responses.map((answer) => [
        String(answer.status),
        answer.type ? code(answer.type) : '',
        answer.description,
      ]),
    ),
  )
  return lines
}

const rowOf = (where: string, { path, type, isRequired, description, limits }: Field): string[] => [
  where,
  code(path) + (isRequired ? ' **(required)**' : ''),
  type,
  description ?? '',
  limits.join(', '),
]
