export {
  type FunctionContext,
  type FunctionDefinition,
  defineFunction,
  type StandardSchema,
  type StepFile,
  type StepFiles,
} from './define-function.ts'
