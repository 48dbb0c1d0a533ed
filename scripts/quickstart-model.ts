import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'

/** Providers that the quickstart knows a model of, and the variable that their own tools take the key from. */
const PRESETS: Record<string, { model: string; variable: string }> = {
  anthropic: { model: 'claude-sonnet-4-5', variable: 'ANTHROPIC_API_KEY' },
  openai: { model: 'gpt-5-mini', variable: 'OPENAI_API_KEY' },
  google: { model: 'gemini-2.5-flash', variable: 'GEMINI_API_KEY' },
}

const WAYS = Object.entries(PRESETS).map(([name, { variable }]) => `--model ${name} (${variable})`)

export interface ChosenModel {
  /** File of the ModelEndpoint `summary-model`. */
  file: string
  /** Who writes the summary, for the report. */
  writer: string
  /** What is said beforehand. */
  note: string
  /** Variables by which the engine finds the key; it is in no file and no argument. */
  env: Record<string, string>
}

/**
 * Which model writes the summary: what was named, and else the scripted one. A key in the environment is not enough: measurements of somebody's
 * repository leave the machine only when they say so.
 */
export function chooseModel(
  named: string | undefined,
  at: { out: string; scripted: string; env: NodeJS.ProcessEnv },
): ChosenModel {
  const scripted = (why: string): ChosenModel => ({
    file: at.scripted,
    writer: 'a script, not by a model',
    note: `${why} The executive summary is scripted (a mock endpoint). With a model: ${WAYS.join(', ')}, or --model FILE with a ModelEndpoint called summary-model.`,
    env: {},
  })
  if (named === undefined) return scripted('No model was named.')
  const preset = PRESETS[named]
  if (!preset) {
    const file = resolve(named)
    if (!existsSync(file))
      throw new Error(
        `--model ${named}: there is no such file, and no provider of that name. There are: ${WAYS.join(', ')}.`,
      )
    if (!/name:\s*summary-model\b|"name":\s*"summary-model"/.test(readFileSync(file, 'utf8')))
      throw new Error(`--model ${named}: the file has no ModelEndpoint called summary-model.`)
    return {
      file,
      writer: `the model of ${named}`,
      note: `The model of ${file} writes the executive summary.`,
      env: {},
    }
  }
  const key = at.env[preset.variable]
  if (key === undefined || key === '') return scripted(`${preset.variable} is not set.`)
  const file = join(at.out, 'model.json')
  const endpoint = {
    apiVersion: 'orrery.dev/v1',
    kind: 'ModelEndpoint',
    metadata: { name: 'summary-model' },
    spec: { provider: named, model: preset.model, credentials: { secret: 'quickstart', key: 'api-key' } },
  }
  writeFileSync(file, JSON.stringify(endpoint, null, 2))
  return {
    file,
    writer: `${preset.model} of ${named}`,
    note: `${preset.model} of ${named} writes the executive summary: measurements of the repository are sent there, no file of it.`,
    env: { ORRERY_SECRET_QUICKSTART_API_KEY: key },
  }
}
