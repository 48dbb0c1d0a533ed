import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { LIMITS } from '../limits.ts'
import { manifestOf, parseResources, readResources } from './documents.ts'
import { HIDDEN } from './secret.ts'

const workflow = (name: string, more = ''): string => `apiVersion: orrery.dev/v1
kind: Workflow
metadata: { name: ${name}${more} }
spec:
  steps:
    - { name: a, command: echo hello, timeout: 5m }
`
const secret = (data: string): string => `apiVersion: orrery.dev/v1
kind: Secret
metadata: { name: db }
spec: { data: ${data} }
`
const read = (text: string, namespace: string | null = null) => readResources([{ text, file: 'all.yaml' }], namespace)
const problemsOf = (text: string, namespace: string | null = null) => read(text, namespace).problems

describe('resources in a text', () => {
  test('several documents of several kinds, as they were written', () => {
    const { documents, problems } = read(
      `---\n${workflow('one', ', labels: { team: core }')}---\n${secret('{ k: v }')}---\n`,
    )
    expect(problems).toEqual([])
    expect(documents.map(({ kind, namespace, name }) => [kind, namespace, name])).toEqual([
      ['Workflow', 'default', 'one'],
      ['Secret', 'default', 'db'],
    ])
    // Nothing is filled in and nothing converted: five minutes stay 5m.
    expect(documents[0]?.spec).toEqual({ steps: [{ name: 'a', command: 'echo hello', timeout: '5m' }] })
    expect(documents[0]?.definition?.nodes).toHaveLength(1)
    expect(documents[1]?.definition).toBeNull()
    expect(documents.map(({ place }) => place.line)).toEqual([2, 9])
  })

  test('JSON, alone, as a list and as what get printed', () => {
    const one = manifestOf({
      kind: 'Secret',
      namespace: 'default',
      name: 'a',
      labels: {},
      annotations: {},
      spec: { data: { k: 'v' } },
    })
    const got = {
      ...one,
      metadata: { name: 'b', uid: 'res_1', resourceVersion: '7', generation: 2, createdAt: 'x', updatedAt: 'y' },
      status: { phase: 'ready' },
    }
    const { documents, problems } = read(
      JSON.stringify({ apiVersion: 'orrery.dev/v1', kind: 'List', items: [one, got] }),
    )
    expect(problems).toEqual([])
    expect(documents.map(({ name, expected }) => ({ name, expected }))).toEqual([
      { name: 'a', expected: { uid: null, resourceVersion: null } },
      { name: 'b', expected: { uid: 'res_1', resourceVersion: '7' } },
    ])
  })

  test('every problem of every document at once, each with document, line, column and the nearest key', () => {
    const text = [
      workflow('one').replace('timeout', 'timout'),
      secret('{ k: 5 }').replace('name: db', 'name: DB, lables: {}'),
      'apiVersion: orrery.dev/v1\nkind: Workflo\n',
      workflow('four'),
    ].join('---\n')
    expect(problemsOf(text)).toMatchObject([
      { document: 1, line: 6, column: 39, path: 'spec.steps[0].timout', nearest: 'timeout', file: 'all.yaml' },
      { document: 2, line: 10, column: 19, path: 'metadata.name' },
      { document: 2, line: 10, column: 23, path: 'metadata.lables', nearest: 'labels' },
      { document: 2, line: 11, column: 20, path: 'spec.data.k', message: expect.stringContaining('must be a string') },
      { document: 3, line: 14, path: 'kind', nearest: 'Workflow' },
    ])
    expect(() => parseResources(text, { file: 'all.yaml', namespace: null })).toThrow(
      expect.objectContaining({ code: 'manifest.invalid', message: 'reading all.yaml: 5 problems' }),
    )
  })

  test('a place inside a list names the item', () => {
    const items = [{ apiVersion: 'orrery.dev/v1', kind: 'Secret', metadata: { name: 'a' }, spec: { date: {} } }]
    expect(problemsOf(JSON.stringify({ kind: 'List', items }, null, 1))).toMatchObject([
      { path: 'items[0].spec.data', message: 'is required' },
      { path: 'items[0].spec.date', nearest: 'data', line: 11, column: 5 },
    ])
  })

  test.for<[what: string, text: string, message: string]>([
    ['the same resource twice', `${workflow('one')}---\n${workflow('one')}`, 'is there twice; first at all.yaml:1'],
    ['no kind', 'apiVersion: orrery.dev/v1\n', 'is required; kinds are Workflow, Secret'],
    ['a document that is no map', '- a\n', 'must be a map'],
    ['an empty text', '', 'the manifest is empty'],
    ['a secret without keys', secret('{}'), 'has no keys'],
    [
      'a secret with too many keys',
      secret(
        JSON.stringify(Object.fromEntries(Array.from({ length: LIMITS.secretKeysMax + 1 }, (_, i) => [`k${i}`, 'v']))),
      ),
      'more than 100 keys',
    ],
    ['a secret with a bad key', secret('{ "a b": x }'), 'is no key of a secret'],
    [
      'a secret with a value that is too long',
      secret(`{ k: ${'x'.repeat(LIMITS.secretValueBytes + 1)} }`),
      'is longer than',
    ],
    ['a secret as get shows it', secret(`{ k: "${HIDDEN}" }`), 'write the value'],
    ['a label that no selector can name', workflow('a', ', labels: { "a b": x }'), 'is no name of a label'],
    [
      'a value of a label that no selector can name',
      workflow('a', ', labels: { a: "x, y" }'),
      'annotations take any text',
    ],
    [
      'too many labels',
      workflow(
        'a',
        `, labels: ${JSON.stringify(Object.fromEntries(Array.from({ length: LIMITS.labelsMax + 1 }, (_, i) => [`l${i}`, 'v'])))}`,
      ),
      'more than 64 labels',
    ],
    [
      'annotations that are too long',
      workflow('a', `, annotations: { a: ${'x'.repeat(LIMITS.annotationBytes)} }`),
      'bytes',
    ],
    [
      'a resourceVersion that is none',
      workflow('a', ', resourceVersion: "x"'),
      'must be the number that the server gave',
    ],
    [
      'an unknown lifecycle',
      workflow('a').replace('spec:', 'spec:\n  lifecycle: activ'),
      'must be one of draft, active, deprecated, archived',
    ],
  ])('refuses %s', ([, text, message]) => {
    const found = problemsOf(text)
    expect(found.map((p) => p.message).join('\n')).toContain(message)
    expect(found.every((p) => p.line !== undefined)).toBe(true)
  })

  test('more documents than one request takes are refused', () => {
    const many = Array.from({ length: LIMITS.documentsMax + 1 }, (_, i) => secret('{ k: v }').replace('db', `db${i}`))
    expect(problemsOf(many.join('---\n'))).toMatchObject([{ code: 'request.too_large' }])
  })

  test('a namespace that was asked for is filled in, and a document of another one is refused', () => {
    expect(read(workflow('a'), 'ops').documents[0]).toMatchObject({
      namespace: 'ops',
      definition: { namespace: 'ops' },
    })
    expect(problemsOf(workflow('a', ', namespace: dev'), 'ops')).toMatchObject([
      { path: 'metadata.namespace', message: expect.stringContaining('is not ops'), line: 3, column: 33 },
    ])
    expect(read(workflow('a', ', namespace: dev'), null).documents[0]).toMatchObject({ namespace: 'dev' })
  })

  test('whatever the text, nothing is thrown and every problem has a place', () => {
    const fragment = fc.constantFrom(
      '---\n',
      'kind: Workflow\n',
      'kind: List\n',
      'items:\n',
      '- ',
      '  ',
      'spec:\n',
      'metadata: ',
      '{ name: a }\n',
      'steps: ',
      '[',
      '{',
      '"',
      '*a',
      '&a ',
      ': ',
      '\n',
      'kind: Secret\n',
      'data: { k: v }\n',
      '...\n',
      '!!x ',
    )
    fc.assert(
      fc.property(fc.array(fc.oneof(fragment, fc.string({ maxLength: 8 })), { maxLength: 30 }), (parts) => {
        const { problems, documents } = read(parts.join(''))
        expect(problems.every((p) => (p.line ?? 0) >= 1 && (p.column ?? 0) >= 1)).toBe(true)
        expect(problems.length + documents.length).toBeGreaterThan(0)
      }),
      { numRuns: 300 },
    )
  })
})
