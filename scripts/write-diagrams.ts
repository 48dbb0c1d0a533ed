import { readFileSync, writeFileSync } from 'node:fs'
import { ATTEMPT_EDGES, RUN_EDGES, STEP_EDGES } from '../src/domain/machines.ts'

const FILE = new URL('../ARCHITECTURE.md', import.meta.url)
const BEGIN = '<!-- diagrams: written by npm run diagrams from src/domain/machines.ts -->'
const END = '<!-- end of diagrams -->'

type Edges = Readonly<Record<string, Readonly<Record<string, string>>>>

function diagram(title: string, first: string, edges: Edges): string {
  const lines = Object.entries(edges).flatMap(([from, to]) =>
    Object.entries(to).map(([state, why]) => `  ${from} --> ${state}: ${why}`),
  )
  return [`**${title}**`, '', '```mermaid', 'stateDiagram-v2', `  [*] --> ${first}`, ...lines, '```'].join('\n')
}

/** ARCHITECTURE.md with its diagrams as the machines are now. */
export function withDiagrams(text: string): string {
  const begin = text.indexOf(BEGIN)
  const end = text.indexOf(END)
  if (begin < 0 || end < begin) throw new Error(`ARCHITECTURE.md lacks the marks ${BEGIN} and ${END}`)
  const drawn = [
    diagram('Run', 'pending', RUN_EDGES),
    diagram('Step', 'pending', STEP_EDGES),
    diagram('Attempt', 'leased', ATTEMPT_EDGES),
  ]
  return `${text.slice(0, begin + BEGIN.length)}\n\n${drawn.join('\n\n')}\n\n${text.slice(end)}`
}

const text = readFileSync(FILE, 'utf8')
const fresh = withDiagrams(text)
if (process.argv.includes('--check')) {
  if (fresh !== text) {
    console.error('ARCHITECTURE.md: the diagrams are stale; run npm run diagrams')
    process.exit(1)
  }
} else writeFileSync(FILE, fresh)
