/** One line of Prometheus' text format. */
export interface Sample {
  name: string
  labels: Record<string, string>
  value: number
}

export interface Family {
  name: string
  type: string
  help: string
  samples: Sample[]
}

const NAME = '[a-zA-Z_:][a-zA-Z0-9_:]*'
const LINE = new RegExp(`^(${NAME})(?:\\{(.*)\\})? (\\S+)$`)
const LABEL = /([a-zA-Z_]\w*)="((?:[^"\\\n]|\\["\\n])*)"(,|$)/y

/** Reads the text format strictly: each family once, with help and type before its samples, no sample twice. Throws what is wrong, with the line. */
export function parseExposition(text: string): Map<string, Family> {
  const families = new Map<string, Family>()
  const seen = new Set<string>()
  const fail = (n: number, what: string): never => {
    throw new Error(`line ${n}: ${what}`)
  }
  if (!text.endsWith('\n')) fail(text.split('\n').length, 'the last line does not end')
  let current: Family | null = null
  for (const [i, line] of text.split('\n').entries()) {
    const n = i + 1
    if (line === '') continue
    const [, kind, name = '', rest = ''] = /^# (HELP|TYPE) (\S+) (.*)$/.exec(line) ?? []
    if (kind === 'HELP') {
      if (families.has(name)) fail(n, `${name} comes twice`)
      current = { name, type: '', help: rest, samples: [] }
      families.set(name, current)
    } else if (kind === 'TYPE') {
      if (current?.name !== name) return fail(n, `the type of ${name} does not follow its help`)
      if (!['counter', 'gauge', 'histogram', 'summary', 'untyped'].includes(rest)) fail(n, `there is no type ${rest}`)
      current.type = rest
    } else if (!line.startsWith('#')) {
      const sample = parseSample(line) ?? fail(n, `is no sample: ${line}`)
      if (!current || !isOf(sample.name, current)) return fail(n, `${sample.name} stands outside of its family`)
      const key = `${sample.name}${JSON.stringify(sortedLabels(sample.labels))}`
      if (seen.has(key)) fail(n, `${key} comes twice`)
      seen.add(key)
      current.samples.push(sample)
    }
  }
  return families
}

const sortedLabels = (labels: Record<string, string>): string[] =>
  Object.entries(labels)
    .map(([name, value]) => `${name}=${value}`)
    .sort((a, b) => (a < b ? -1 : 1))

function isOf(name: string, family: Family): boolean {
  if (name === family.name) return family.type !== 'histogram'
  return family.type === 'histogram' && ['_bucket', '_sum', '_count'].some((end) => name === family.name + end)
}

function parseSample(line: string): Sample | null {
  const [, name, inner, text] = LINE.exec(line) ?? []
  if (name === undefined || text === undefined) return null
  const labels: Record<string, string> = {}
  LABEL.lastIndex = 0
  while (LABEL.lastIndex < (inner ?? '').length) {
    const [, label = '', value = ''] = LABEL.exec(inner ?? '') ?? []
    if (label === '' || label in labels) return null
    labels[label] = value.replaceAll(/\\(.)/g, (_, c: string) => (c === 'n' ? '\n' : c))
  }
  const value = text === '+Inf' ? Infinity : text === '-Inf' ? -Infinity : text === 'NaN' ? NaN : Number(text)
  return Number.isNaN(value) && text !== 'NaN' ? null : { name, labels, value }
}
