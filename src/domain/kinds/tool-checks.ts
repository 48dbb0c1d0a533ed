import type { Json, JsonObject } from '../../base/json.ts'
import { nearest } from '../../base/nearest.ts'
import { compileExpression } from '../expression.ts'
import { schemaProblems } from '../json-schema.ts'
import type { Path } from '../place.ts'
import { isObject, type Placed, placedProblem } from '../placed-problem.ts'
import { parseTemplate } from '../template.ts'

const problem = (message: string, path: Path, meant?: () => string | null): Placed =>
  placedProblem('manifest.invalid', message, ['spec', ...path], meant)

/** Blocks that belong to one type, and what makes up the type. */
const BLOCKS = ['http', 'external', 'callback', 'grpc', 'command', 'wasm', 'mcp', 'agent', 'workflow']
const OVER_A_NETWORK = ['http', 'external', 'callback', 'grpc']

const AUTH_FIELDS: Record<string, { needs: string[]; takes: string[] }> = {
  bearer: { needs: ['token'], takes: [] },
  header: { needs: ['name', 'value'], takes: [] },
  basic: { needs: ['username', 'password'], takes: [] },
  oauth2: { needs: ['tokenUrl', 'clientId', 'clientSecret'], takes: ['scopes', 'audience', 'clientIn'] },
}

/** What the schema cannot say: which fields go together, and what templates may name. */
export function checkTool(spec: JsonObject): Placed[] {
  const { type } = spec
  if (typeof type !== 'string' || !BLOCKS.includes(type)) return []
  return [
    ...blockProblems(spec, type),
    ...networkProblems(spec, type),
    ...isolationProblems(spec, type),
    ...schemaFieldProblems(spec),
    ...httpProblems(spec),
    ...programProblems(spec),
    ...templatesOf(spec, type).flatMap(({ path, text }) => templateProblems(text, path, spec['inputSchema'])),
  ]
}

function blockProblems(spec: JsonObject, type: string): Placed[] {
  const strays = BLOCKS.filter((block) => block !== type && spec[block] !== undefined)
  return [
    ...(spec[type] === undefined ? [problem(`is required for the type ${type}`, [type])] : []),
    ...strays.map((block): Placed => ({
      ...problem(`is for the type ${block}; this one is ${type}`, [block]),
      at: 'key',
    })),
  ]
}

function networkProblems(spec: JsonObject, type: string): Placed[] {
  const found: Placed[] = []
  if (!OVER_A_NETWORK.includes(type))
    for (const key of ['auth', 'allowPrivateAddresses'])
      if (spec[key] !== undefined)
        found.push({ ...problem(`is for ${OVER_A_NETWORK.join(', ')}; this one is ${type}`, [key]), at: 'key' })
  const { auth } = spec
  if (!isObject(auth)) return found
  const kind = auth['type']
  const fields = typeof kind === 'string' ? AUTH_FIELDS[kind] : undefined
  if (!fields) return found
  for (const key of fields.needs)
    if (auth[key] === undefined) found.push(problem(`is required for ${String(kind)}`, ['auth', key]))
  for (const key of Object.keys(auth)) {
    const isKnown = Object.values(AUTH_FIELDS).some(({ needs, takes }) => [...needs, ...takes].includes(key))
    if (isKnown && ![...fields.needs, ...fields.takes].includes(key))
      found.push({ ...problem(`has no meaning for ${String(kind)}`, ['auth', key]), at: 'key' })
  }
  return found
}

const ISOLATION_OF: Record<string, string[]> = { command: ['none', 'sandbox'], wasm: ['wasm', 'sandbox'] }

function isolationProblems(spec: JsonObject, type: string): Placed[] {
  const { isolation } = spec
  if (typeof isolation !== 'string') return []
  if (isolation === 'container')
    return [problem('is not to be had yet: no worker runs tools in containers; use sandbox', ['isolation'])]
  const allowed = ISOLATION_OF[type] ?? ['none']
  if (allowed.includes(isolation)) return []
  return [problem(`must be ${allowed.join(' or ')} for the type ${type}`, ['isolation'])]
}

function schemaFieldProblems(spec: JsonObject): Placed[] {
  const found: Placed[] = []
  for (const key of ['inputSchema', 'outputSchema']) {
    const schema = spec[key]
    if (!isObject(schema)) continue
    for (const { path, message } of schemaProblems(schema)) found.push(problem(message, [key, ...path]))
  }
  const input = spec['inputSchema']
  if (isObject(input) && input['type'] !== 'object')
    found.push(problem('must be object: tools are called with an object', ['inputSchema', 'type']))
  return found
}

/** `https://host/…` in which templates stand behind the host alone. */
const ADDRESS = /^https?:\/\/(?:\[[0-9a-f:.]+\](?::\d+)?|[^\s/?#@[\]$]+)(?:[/?][^\s#]*)?$/i

function httpProblems(spec: JsonObject): Placed[] {
  const found: Placed[] = []
  for (const type of ['http', 'external', 'callback']) {
    const block = spec[type]
    const url = isObject(block) ? block['url'] : undefined
    if (typeof url !== 'string') continue
    const plain = parseTemplate(url)
      .parts.map((part) => (part.kind === 'text' ? part.text : '$'))
      .join('')
    if (!ADDRESS.test(plain) || URL.parse(plain.replaceAll('$', 'x')) === null)
      found.push(
        problem(
          'must be an address such as https://api.example/v1/${{ inputs.id }}: no user, no fragment, and templates behind the host alone',
          [type, 'url'],
        ),
      )
  }
  const { http } = spec
  if (!isObject(http)) return found
  const { method, body, bodyAs } = http
  if ((method === 'GET' || method === 'HEAD') && body !== undefined)
    found.push({ ...problem(`has no place in a ${method}`, ['http', 'body']), at: 'key' })
  if ((method === 'GET' || method === 'HEAD') && bodyAs !== undefined)
    found.push({ ...problem(`has no meaning for a ${method}`, ['http', 'bodyAs']), at: 'key' })
  if (bodyAs === 'form' && body !== undefined && !isObject(body))
    found.push(problem('must be a map: each entry is a field of the form', ['http', 'body']))
  if (bodyAs === 'text' && typeof body !== 'string')
    found.push(problem('must be a text when bodyAs is text', ['http', 'body']))
  return found
}

function programProblems(spec: JsonObject): Placed[] {
  const found: Placed[] = []
  const { command, wasm } = spec
  const argv = isObject(command) ? command['argv'] : undefined
  const program = Array.isArray(argv) ? argv[0] : undefined
  if (typeof program === 'string' && (program === '' || program.includes('${{')))
    found.push(problem('must be a program: a call does not say which one is run', ['command', 'argv', 0]))
  if (typeof program === 'string' && strays(program, { isProgram: true }))
    found.push(problem('must be a name, an absolute path, or ./NAME without ..', ['command', 'argv', 0]))
  const module = isObject(wasm) ? wasm['module'] : undefined
  if (typeof module === 'string' && strays(module, { isProgram: false }))
    found.push(problem('must be a path below the files of the tools: not absolute, without ..', ['wasm', 'module']))
  return found
}

function strays(path: string, { isProgram }: { isProgram: boolean }): boolean {
  if (path.split('/').includes('..') || path.includes('\0')) return true
  if (!isProgram) return path.startsWith('/')
  return path.includes('/') && !path.startsWith('/') && !path.startsWith('./')
}

interface FoundTemplate {
  path: Path
  text: string
}

/** Fields that are filled in for each call. */
const FILLED: Record<string, string[]> = {
  http: ['url', 'query', 'headers', 'body'],
  external: ['url', 'headers'],
  callback: ['url', 'headers', 'body'],
  grpc: ['metadata', 'request'],
  command: ['argv', 'env'],
  wasm: ['args', 'env'],
}

function templatesOf(spec: JsonObject, type: string): FoundTemplate[] {
  const block = spec[type]
  if (!isObject(block)) return []
  return (FILLED[type] ?? []).flatMap((key) => textsIn(block[key], [type, key]))
}

function textsIn(value: Json | undefined, path: Path): FoundTemplate[] {
  if (typeof value === 'string') return value.includes('${{') ? [{ path, text: value }] : []
  if (Array.isArray(value)) return value.flatMap((entry, i) => textsIn(entry, [...path, i]))
  if (!isObject(value)) return []
  return Object.entries(value).flatMap(([key, entry]) => textsIn(entry, [...path, key]))
}

function templateProblems(text: string, path: Path, inputSchema: Json | undefined): Placed[] {
  const { parts, unclosedAt } = parseTemplate(text)
  if (unclosedAt !== null) return [problem('has a ${{ that is not closed', path)]
  return parts.flatMap((part): Placed[] => {
    if (part.kind === 'text') return []
    const compiled = compileExpression(part.source)
    if (!compiled.ok) {
      const near = compiled.nearest ?? null
      return [problem(compiled.message, path, () => near)]
    }
    const known = closedProperties(inputSchema)
    return compiled.expression.reads.flatMap(({ root, path: read }): Placed[] => {
      if (root !== 'inputs') return [problem(`reads ${root}; a tool knows only inputs, what it is called with`, path)]
      const [, first] = read
      if (known === null || typeof first !== 'string' || known.includes(first)) return []
      return [problem(`reads inputs.${first}, which is not in inputSchema`, path, () => nearest(first, known))]
    })
  })
}

/** Names of all properties that there can be; null when the schema leaves that open. */
function closedProperties(schema: Json | undefined): string[] | null {
  if (!isObject(schema) || schema['additionalProperties'] !== false || !isObject(schema['properties'])) return null
  return Object.keys(schema['properties'])
}
