// What the crash tests run, with what must come out.
import type { Json, JsonObject } from '../../src/base/index.ts'

/** Modules are loaded by the worker; the path here is for a reader only. */
const manifest = (name: string, steps: JsonObject[]): JsonObject => ({
  apiVersion: 'orrery.dev/v1',
  kind: 'Workflow',
  metadata: { name },
  spec: { modules: { chaos: './steps.ts' }, steps },
})

const work = (more: JsonObject = {}): JsonObject => ({
  journal: '${{ inputs.journal }}',
  ms: '${{ inputs.ms }}',
  ...more,
})
const out = (step: string): string => `\${{ steps.${step}.output }}`

/** Lines of output, then a JSON output; it notes its start like the functions do. */
export const LINES = 20
const SCRIPT = [
  'printf "%s %s start 0\\n" "$ORRERY_ATTEMPT" $$ >> "$JOURNAL"',
  `i=0; while [ $i -lt ${LINES} ]; do i=$((i+1)); echo "line $i"; sleep "$PAUSE"; done`,
  'echo "{\\"value\\": $VALUE}" > "$ORRERY_OUTPUT"',
].join('\n')

const shell = (name: string, more: JsonObject): JsonObject => ({
  name,
  command: ['sh', '-c', SCRIPT],
  env: { JOURNAL: '${{ inputs.journal }}', PAUSE: '${{ inputs.pause }}', VALUE: '7' },
  ...more,
})

export interface Shape {
  manifest: JsonObject
  /** Output of a step of a run that succeeded. */
  expected: Record<string, Json>
}

export const SHAPES: Record<string, Shape> = {
  chain: {
    manifest: manifest('chain', [
      { name: 'a', function: 'chaos.next', with: work({ value: 1 }) },
      { name: 'b', needs: ['a'], function: 'chaos.next', with: work({ value: '${{ steps.a.output.value }}' }) },
      { name: 'c', needs: ['b'], function: 'chaos.next', with: work({ value: '${{ steps.b.output.value }}' }) },
    ]),
    expected: { a: { value: 2 }, b: { value: 3 }, c: { value: 4 } },
  },
  join: {
    manifest: manifest('join', [
      { name: 'a', function: 'chaos.next', with: work({ value: 1 }) },
      { name: 'b', function: 'chaos.next', with: work({ value: 2 }) },
      { name: 'c', function: 'chaos.next', with: work({ value: 3 }) },
      {
        name: 'all',
        needs: ['a', 'b', 'c'],
        function: 'chaos.sum',
        with: work({ values: [out('a'), out('b'), out('c')] }),
      },
    ]),
    expected: { all: { sum: 9 } },
  },
  each: {
    manifest: manifest('each', [
      { name: 'list', function: 'chaos.list', with: work({ count: 5 }) },
      {
        name: 'one',
        needs: ['list'],
        forEach: '${{ steps.list.output.items }}',
        maxParallel: 3,
        function: 'chaos.next',
        with: work({ value: '${{ item }}' }),
      },
      { name: 'all', needs: ['one'], function: 'chaos.sum', with: work({ values: out('one') }) },
    ]),
    expected: { all: { sum: 20 } },
  },
  shell: {
    manifest: manifest('shell', [
      { name: 'a', function: 'chaos.next', with: work({ value: 6 }) },
      shell('sh', { needs: ['a'] }),
      { name: 'b', needs: ['sh'], function: 'chaos.next', with: work({ value: '${{ steps.sh.output.value }}' }) },
    ]),
    expected: { b: { value: 8 } },
  },
  flaky: {
    manifest: manifest('flaky', [
      {
        name: 'a',
        function: 'chaos.flaky',
        with: work({ failures: 2 }),
        retry: { max: 3, initial: '50ms', maxDelay: '200ms' },
      },
      { name: 'b', needs: ['a'], function: 'chaos.next', with: work({ value: '${{ steps.a.output.tries }}' }) },
    ]),
    expected: { a: { tries: 2 }, b: { value: 3 } },
  },
}

/** One function that takes as long as it is told, then another. */
export const LONG: JsonObject = manifest('long', [
  { name: 'a', function: 'chaos.next', with: work({ value: 1 }) },
  { name: 'b', needs: ['a'], function: 'chaos.next', with: { ...work({ value: 2 }), ms: 1 } },
])

/** One command alone. */
export const COMMAND: JsonObject = manifest('command', [shell('sh', {})])

/** A command between others, each of which says once that it was there; the second set-up waits for a gate. Then one that is handed its variable. */
export const STAGED: JsonObject = manifest('staged', [
  {
    name: 'staged',
    env: { DIR: '${{ inputs.dir }}' },
    setUp: [
      'echo one >> $DIR/trace',
      'echo two >> $DIR/trace; until [ -e $DIR/gate ]; do sleep 0.02; done; echo V=7 >> $ORRERY_ENV',
    ],
    command: 'echo main >> $DIR/trace; echo $V',
    output: 'json',
    tearDown: ['echo three >> $DIR/trace'],
    exportEnv: true,
  },
  { name: 'after', needs: ['staged'], command: 'echo "v is $V"', output: 'text' },
])
